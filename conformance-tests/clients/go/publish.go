package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/openfaas/go-sdk/builder"
	"github.com/openfaas/go-sdk/stack"
)

// A builder as the flags name it.
type remote struct {
	url       *url.URL
	secret    string
	publicKey string
	platforms []string
	stream    bool
	skipPush  bool
}

// publish builds every function of a stack file.
func publish(args []string) ([]outcome, error) {
	flags := flag.NewFlagSet("publish", flag.ExitOnError)
	file := flags.String("f", "stack.yaml", "the stack file; templates, handlers and contexts lie beside it")
	address := flags.String("url", os.Getenv("OPENFAAS_REMOTE_BUILDER"), "the builder; nothing but scheme and host counts")
	secret := flags.String("payload-secret", os.Getenv("OPENFAAS_PAYLOAD_SECRET"), "a file with the key that signs")
	publicKey := flags.String("builder-public-key", os.Getenv("OPENFAAS_BUILDER_PUBLIC_KEY"), "the key that seals; asked for if it isn't given")
	platforms := flags.String("platforms", "", "separated by commas")
	parallel := flags.Int("parallel", 1, "functions at once")
	sync := flags.Bool("sync", false, "wait for the whole answer")
	skipPush := flags.Bool("skip-push", false, "build alone")
	_ = flags.Parse(args)

	services, err := stack.ParseYAMLFile(*file, "", "", true)
	if err != nil {
		return nil, err
	}
	target, err := url.Parse(*address)
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(*secret)
	if err != nil {
		return nil, err
	}
	to := remote{
		url:       &url.URL{Scheme: target.Scheme, Host: target.Host},
		secret:    string(bytes.TrimSpace(key)),
		publicKey: *publicKey,
		stream:    !*sync,
		skipPush:  *skipPush,
	}
	if *platforms != "" {
		to.platforms = strings.Split(*platforms, ",")
	}
	return all(services.Functions, *parallel, to.function), nil
}

// all does a thing for every function, so many at once.
func all(functions map[string]stack.Function, parallel int, do func(string, stack.Function) outcome) []outcome {
	places := make(chan struct{}, parallel)
	outcomes := make([]outcome, 0, len(functions))
	var mutex sync.Mutex
	var group sync.WaitGroup
	for name, function := range functions {
		group.Add(1)
		go func() {
			defer group.Done()
			places <- struct{}{}
			defer func() { <-places }()
			outcome := do(name, function)
			mutex.Lock()
			defer mutex.Unlock()
			outcomes = append(outcomes, outcome)
		}()
	}
	group.Wait()
	return outcomes
}

// function packs one function and has it built.
func (to remote) function(name string, function stack.Function) outcome {
	result := outcome{Function: name, Log: []string{}}
	if err := to.build(name, function, &result); err != nil {
		result.Error = err.Error()
	}
	return result
}

func (to remote) build(name string, function stack.Function, result *outcome) error {
	context, err := builder.CreateBuildContext(name, function.Handler, function.Language, nil)
	if err != nil {
		return err
	}
	// Always there, declared by the Dockerfile or not.
	buildArgs := map[string]string{"ADDITIONAL_PACKAGE": strings.Join(function.BuildOptions, " ")}
	for name, value := range function.BuildArgs {
		buildArgs[name] = value
	}
	folder, err := os.MkdirTemp("", "builder-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	tar := filepath.Join(folder, "req.tar")
	config := builder.BuildConfig{
		Image: function.Image, BuildArgs: buildArgs, Platforms: to.platforms, SkipPush: to.skipPush,
	}
	if err := builder.MakeTar(tar, context, &config); err != nil {
		return err
	}
	options := []builder.BuilderOption{builder.WithHmacAuth(to.secret)}
	secrets, err := to.secrets(function, &options)
	if err != nil {
		return err
	}
	client := builder.NewFunctionBuilder(to.url, http.DefaultClient, options...)
	if !to.stream {
		return whole(client, tar, secrets, result)
	}
	return streamed(client, tar, secrets, result)
}

// secrets reads a function's secrets, whose values are paths, and adds the key to seal them with.
func (to remote) secrets(function stack.Function, options *[]builder.BuilderOption) (map[string]string, error) {
	secrets := map[string]string{}
	for name, path := range function.BuildSecrets {
		value, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		secrets[name] = string(value)
	}
	if len(secrets) == 0 {
		return nil, nil
	}
	key := to.publicKey
	if key == "" {
		answer, err := http.Get(to.url.JoinPath("/publickey").String())
		if err != nil {
			return nil, err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("the builder's key: status code %d", answer.StatusCode)
		}
		published := struct {
			Algorithm string `json:"algorithm"`
			PublicKey string `json:"public_key"`
		}{}
		if err := json.NewDecoder(answer.Body).Decode(&published); err != nil {
			return nil, err
		}
		if published.Algorithm != "nacl/box" {
			return nil, fmt.Errorf("the builder's key is for %s", published.Algorithm)
		}
		key = published.PublicKey
	}
	*options = append(*options, builder.WithBuildSecretsKey([]byte(key)))
	return secrets, nil
}

func whole(client *builder.FunctionBuilder, tar string, secrets map[string]string, result *outcome) error {
	build := func() (builder.BuildResult, error) { return client.Build(tar) }
	if secrets != nil {
		build = func() (builder.BuildResult, error) { return client.BuildWithSecrets(tar, secrets) }
	}
	answer, err := build()
	if err != nil {
		return err
	}
	result.Image, result.Status, result.Log = answer.Image, answer.Status, append(result.Log, answer.Log...)
	return nil
}

// streamed keeps the last status that came: a stream that ends without a final one leaves what was before it.
func streamed(client *builder.FunctionBuilder, tar string, secrets map[string]string, result *outcome) error {
	build := func() (*builder.BuildResultStream, error) { return client.BuildWithStream(tar) }
	if secrets != nil {
		build = func() (*builder.BuildResultStream, error) { return client.BuildWithSecretsStream(tar, secrets) }
	}
	stream, err := build()
	if err != nil {
		return err
	}
	defer stream.Close()
	for answer, err := range stream.Results() {
		if err != nil {
			return err
		}
		result.Image, result.Status, result.Log = answer.Image, answer.Status, append(result.Log, answer.Log...)
		if answer.Status == builder.BuildFailed {
			return errors.New(answer.Error)
		}
	}
	return nil
}
