#!/bin/sh
# Prints the topology of a lab: a hundred nodes on one link, ten pods on each.
# Use: examples/hundred-nodes.sh > hundred-nodes.toml && fairway up hundred-nodes.toml
set -eu

echo 'name = "hundred-nodes"'
for node in $(seq 1 100); do
    printf '[nodes.node%03d]\npools = ["10.1.%d.0/24"]\n' "$node" "$node"
done
echo '[links.lan.members]'
for node in $(seq 1 100); do
    printf 'node%03d = "192.168.1.%d/24"\n' "$node" "$node"
done
echo '[pods]'
for node in $(seq 1 100); do
    for pod in $(seq 1 10); do
        printf 'pod%03d-%02d = { node = "node%03d", address = "10.1.%d.%d" }\n' "$node" "$pod" "$node" "$node" "$((pod + 1))"
    done
done
