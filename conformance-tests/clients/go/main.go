// What OpenFaaS's own Go programs send: `publish` calls the SDK as faas-cli calls it, `pipeline` packs and posts as the
// functions git-tar and buildshiprun of OpenFaaS Cloud do. What came back is printed as JSON, a line for each function.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

// What a client made of an answer.
type outcome struct {
	Function string   `json:"function"`
	Image    string   `json:"image"`
	Status   string   `json:"status"`
	Error    string   `json:"error"`
	Log      []string `json:"log"`
}

func main() {
	commands := map[string]func([]string) ([]outcome, error){"publish": publish, "pipeline": pipeline}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: openfaas publish|pipeline [flags]")
		os.Exit(2)
	}
	outcomes, err := commands[os.Args[1]](os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	failed := false
	for _, outcome := range outcomes {
		failed = failed || outcome.Error != ""
		if err := json.NewEncoder(os.Stdout).Encode(outcome); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	}
	if failed {
		os.Exit(1)
	}
}
