package helm

import (
	_ "helm.sh/helm/v4/pkg/action"
	_ "helm.sh/helm/v4/pkg/engine"
)
