module pulumi-lxd-cluster/tools/go-toolchain

go 1.19
