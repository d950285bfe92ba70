// Package sidecar has the messages of TaskHubSidecarService, the host's durable endpoint, that durabletask-go lacks or
// knows an older form of. sidecar.pb.go is made from sidecar.proto:
//
//	go generate ./handler/internal/sidecar
//
// It needs protoc and google.golang.org/protobuf/cmd/protoc-gen-go.
package sidecar

//go:generate protoc --go_out=. --go_opt=paths=source_relative sidecar.proto

// Method is the full name of a method, as gRPC calls it.
func Method(name string) string { return "/TaskHubSidecarService/" + name }
