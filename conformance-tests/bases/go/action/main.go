// An action that uses a module and says which version it got.
package main

import (
	"fmt"
	"runtime/debug"

	_ "rsc.io/sampler"
)

func main() {
	build, _ := debug.ReadBuildInfo()
	for _, module := range build.Deps {
		if module.Path == "rsc.io/sampler" {
			fmt.Println(module.Version)
		}
	}
}
