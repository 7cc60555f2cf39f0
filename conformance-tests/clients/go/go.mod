module kiln/conformance-tests/clients

go 1.24

require github.com/openfaas/go-sdk v0.3.1

require (
	github.com/alexellis/hmac/v2 v2.0.0 // indirect
	github.com/drone/envsubst v1.0.3 // indirect
	github.com/ryanuber/go-glob v1.0.0 // indirect
	golang.org/x/crypto v0.39.0 // indirect
	golang.org/x/sys v0.33.0 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
)
