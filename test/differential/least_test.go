package differential_test

const (
	enoughPackets = 15000
	enoughCalls   = 20000
	leastDistinct = 10000
)

var leastPackets = map[string]int{}

var leastCalls = map[string]int{}
