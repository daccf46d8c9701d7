package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// A criClient speaks to a container engine as the kubelet does.
type criClient struct {
	cri.RuntimeServiceClient
	conn *grpc.ClientConn
}

func dialCRI(socket string) (*criClient, error) {
	conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	return &criClient{cri.NewRuntimeServiceClient(conn), conn}, nil
}

// criConfig reads a file as crictl does.
func criConfig[M proto.Message](path string, m M) (M, error) {
	data, err := os.ReadFile(path)
	if err == nil {
		err = protojson.Unmarshal(data, m)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return m, err
}

// crictl is as much of the command of that name as the guides use. The real one
// is in no package of Debian's.
func crictl(args []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := dialCRI("/run/containerd/containerd.sock")
	if err != nil {
		return err
	}
	defer c.conn.Close()
	if len(args) < 2 && (len(args) == 0 || args[0] != "info") {
		return errors.New("usage: crictl COMMAND ARG...")
	}
	switch args[0] {
	case "info":
		return printed(c.Status(ctx, &cri.StatusRequest{}))
	case "runp":
		config, err := criConfig(args[1], &cri.PodSandboxConfig{})
		if err != nil {
			return err
		}
		r, err := c.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: config})
		if err == nil {
			fmt.Println(r.PodSandboxId)
		}
		return err
	case "create":
		if len(args) < 4 {
			return errors.New("usage: crictl create POD CONTAINER.json POD.json")
		}
		container, err := criConfig(args[2], &cri.ContainerConfig{})
		if err != nil {
			return err
		}
		pod, err := criConfig(args[3], &cri.PodSandboxConfig{})
		if err != nil {
			return err
		}
		r, err := c.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: args[1], Config: container, SandboxConfig: pod})
		if err == nil {
			fmt.Println(r.ContainerId)
		}
		return err
	case "start":
		_, err := c.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: args[1]})
		return err
	case "inspectp":
		return printed(c.PodSandboxStatus(ctx, &cri.PodSandboxStatusRequest{PodSandboxId: args[1]}))
	case "stopp":
		_, err := c.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: args[1]})
		return err
	case "rmp":
		_, err := c.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: args[1]})
		return err
	}
	return fmt.Errorf("crictl %s is not here", args[0])
}

// printed prints an answer as crictl does.
func printed(m proto.Message, err error) error {
	if err != nil {
		return err
	}
	text, err := protojson.MarshalOptions{Multiline: true, Indent: "  ", EmitUnpopulated: true}.Marshal(m)
	fmt.Println(string(text))
	return err
}
