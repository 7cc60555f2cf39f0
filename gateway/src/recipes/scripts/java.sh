# Java: beside the runtime's launcher.jar, and on its manifest's Class-Path: javac and java both follow it, and the
# launcher is the one jar that a runtime's compile script always names.
lib=/usr/java/lib
has mvn || unsupported 'the base has no Maven; use a Java runtime that has it (25 and later), or ship the jars inside the action.'
has jar || unsupported 'the base has no jar command; use a Java runtime with a JDK as the base.'
[ -f $lib/launcher.jar ] ||
    unsupported "the base has no $lib/launcher.jar, whose class path is extended; use a Java runtime as the base."

cp "$file" "$work/pom.xml"
cd "$work"
# Its parting escape sequence, which no option for colours takes away, would stand before this step's last line.
export MAVEN_OPTS="${MAVEN_OPTS:-} -Djansi.noreset=true"
# On a repository of its own: the base's would fill with Maven's plugins.
maven() { mvn --batch-mode --no-transfer-progress -Dstyle.color=never -Dmaven.repo.local="$work/m2" "$@"; }

maven org.apache.maven.plugins:maven-dependency-plugin:3.8.1:build-classpath \
    -DincludeScope=runtime -Dmdep.pathSeparator=: -Dmdep.outputFile="$work/classpath" || {
    status=$?
    ! maven --offline validate 2>&1 | grep -q -e 'Non-parseable POM' -e 'Non-readable POM' ||
        invalid 'pom.xml is not well-formed; mend the file and send it again.'
    exit $status
}

# In Maven's order, which decides between two jars that hold the same class. It writes no newline at the end.
{ cat classpath; echo; } | tr : '\n' | sed "s|^$work/m2/||;/^\$/d" >jars
while read -r path; do
    mkdir -p "$lib/ext/${path%/*}"
    cp "$work/m2/$path" "$lib/ext/$path"
done <jars

# What the launcher names already, as that of an extended image does, comes after.
jar xf $lib/launcher.jar META-INF/MANIFEST.MF
tr -d '\r' <META-INF/MANIFEST.MF | sed -e :a -e '$!N;s/\n //;ta' -e 'P;D' | sed -n 's/^Class-Path: //p' >before
{
    echo 'Class-Path: '
    sed 's|^|  ext/|' jars
    sed 's|^|  |' before
} >class-path
jar ufm $lib/launcher.jar class-path
chmod a+r $lib/launcher.jar
