// Command benchkit measures quaymaster beside what users would take instead.
//
//	gen     make the images of a profile and push them
//	fill    start the source registry and gen what it lacks
//	run     run scenarios with every tool, and write results
//	report  print results as tables, and beside the project's goals
//	floor   copy with the least work that is possible: the floor under each row
//	proxy   a registry behind latency, tokens and refused mounts, that counts
//	quay    a Quay of many repositories, with its limits, that counts
//	verify  compare what two registries hold, byte for byte
//	comp    throughput of codecs and hashes
//
// How a tool is called stands in ../tools/TOOL.sh. Servers are started by run on
// fixed ports of loopback. Results are files of tab-separated columns, see
// [results]; goals are ratios within one of them, since the machine is part of
// every figure.
package main
