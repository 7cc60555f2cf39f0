package main

import (
	"archive/tar"
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
)

// pipeline packs a folder that holds `context/` and the configuration, and posts it signed by SHA-1.
func pipeline(args []string) ([]outcome, error) {
	flags := flag.NewFlagSet("pipeline", flag.ExitOnError)
	folder := flags.String("folder", ".", "what is packed")
	address := flags.String("url", "", "the builder, with a slash at its end")
	secret := flags.String("payload-secret", "", "a file with the key that signs")
	_ = flags.Parse(args)

	key, err := os.ReadFile(*secret)
	if err != nil {
		return nil, err
	}
	archive, err := pack(*folder)
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha1.New, bytes.TrimSpace(key))
	mac.Write(archive)
	request, err := http.NewRequest(http.MethodPost, *address+"build", bytes.NewReader(archive))
	if err != nil {
		return nil, err
	}
	request.Header.Set("X-Cloud-Signature", "sha1="+hex.EncodeToString(mac.Sum(nil)))
	request.Header.Set("Content-Type", "application/octet-stream")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	// Whatever the status is.
	result := struct {
		Log       []string `json:"log"`
		ImageName string   `json:"imageName"`
		Status    string   `json:"status"`
	}{}
	if err := json.NewDecoder(answer.Body).Decode(&result); err != nil {
		return nil, fmt.Errorf("no JSON with status code %d: %w", answer.StatusCode, err)
	}
	built := outcome{Function: *folder, Image: result.ImageName, Status: result.Status, Log: result.Log}
	if answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusAccepted {
		built.Error = fmt.Sprintf("status code %d", answer.StatusCode)
	}
	return []outcome{built}, nil
}

// pack walks a folder in lexical order: entries without a slash at the end of folders, and no entry for the root.
func pack(folder string) ([]byte, error) {
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	err := filepath.Walk(folder, func(path string, info os.FileInfo, err error) error {
		if err != nil || path == folder {
			return err
		}
		header, err := tar.FileInfoHeader(info, info.Name())
		if err != nil {
			return err
		}
		if header.Name, err = filepath.Rel(folder, path); err != nil {
			return err
		}
		if err := writer.WriteHeader(header); err != nil || info.IsDir() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = io.Copy(writer, file)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return archive.Bytes(), nil
}
