package cluster

import (
	_ "k8s.io/client-go/kubernetes"
	_ "k8s.io/client-go/tools/remotecommand"
	_ "k8s.io/client-go/tools/clientcmd"
)
