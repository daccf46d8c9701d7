package cnm

import (
	"fmt"

	"github.com/bowline-net/bowline"
)

// refuseSysctls refuses settings of the container: dockerd dresses it, and has
// ways of its own to ask for them.
func refuseSysctls(options map[string]string) error {
	s, asked := options["sysctl"]
	if !asked {
		return nil
	}
	return bowline.Wrong(bowline.ErrInvalid, fmt.Sprintf("option sysctl=%q: want it left out, for Docker sets these itself: "+
		"ask with docker run --sysctl, or from Docker 27 on with the endpoint's driver-opt com.docker.network.endpoint.sysctls", s))
}
