module corral/benchmarks

go 1.22
