# What every installer of this step should know, and no image: caches, certificates, proxies. Sourced by extend.sh.

# Caches would only make the image larger. Each tool ignores the others' variables, and older ones those they don't know.
export PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 PYTHONDONTWRITEBYTECODE=1
export npm_config_cache="$work/npm" COMPOSER_CACHE_DIR="$work/composer" COMPOSER_HTACCESS_PROTECT=0
export GOCACHE="$work/go-build" BUNDLE_USER_HOME="$work/bundle"

# Bundler and Composer read their files as UTF-8 only where the locale says so.
export LANG="${LANG:-C.UTF-8}"

# The mounted file holds the system's roots and the extra ones, so each tool may take it instead of its own.
ca=/.kiln-ca.pem
if [ -f $ca ]; then
    export SSL_CERT_FILE=$ca CURL_CA_BUNDLE=$ca REQUESTS_CA_BUNDLE=$ca GIT_SSL_CAINFO=$ca
    export PIP_CERT=$ca NODE_EXTRA_CA_CERTS=$ca npm_config_cafile=$ca COMPOSER_CAFILE=$ca BUNDLE_SSL_CA_CERT=$ca
fi

# A JVM takes neither PEM nor http_proxy. MAVEN_OPTS and JAVA_OPTS rather than JAVA_TOOL_OPTIONS, which every JVM
# prints.
java=
truststore=/.kiln-truststore.p12
if [ -f $truststore ]; then
    java="-Djavax.net.ssl.trustStore=$truststore -Djavax.net.ssl.trustStoreType=PKCS12 -Djavax.net.ssl.trustStorePassword=changeit"
fi

# java_proxy <http|https> <url>: host and port. Maven takes a proxy's user and password from its settings alone.
java_proxy() {
    address=${2#*://}
    address=${address%%/*}
    address=${address##*@}
    java="$java -D$1.proxyHost=${address%:*}"
    case $address in *:*) java="$java -D$1.proxyPort=${address##*:}" ;; esac
}

# Tools differ in which case they read.
HTTP_PROXY=${HTTP_PROXY:-${http_proxy:-}}
HTTPS_PROXY=${HTTPS_PROXY:-${https_proxy:-}}
NO_PROXY=${NO_PROXY:-${no_proxy:-}}
if [ "$HTTP_PROXY" ]; then
    export HTTP_PROXY http_proxy="$HTTP_PROXY"
    java_proxy http "$HTTP_PROXY"
fi
if [ "$HTTPS_PROXY" ]; then
    export HTTPS_PROXY https_proxy="$HTTPS_PROXY"
    java_proxy https "$HTTPS_PROXY"
fi
if [ "$NO_PROXY" ]; then
    export NO_PROXY no_proxy="$NO_PROXY"
    java="$java -Dhttp.nonProxyHosts=$(printf %s "$NO_PROXY" | sed -e 's/ *, */|/g' -e 's/\(^\||\)\./\1*./g')"
fi

if [ "$java" ]; then
    # Maven 3.9 looks at the proxy properties only when told to.
    java="$java -Daether.connector.http.useSystemProperties=true"
    export MAVEN_OPTS="${MAVEN_OPTS:-} $java" JAVA_OPTS="${JAVA_OPTS:-} $java"
fi
