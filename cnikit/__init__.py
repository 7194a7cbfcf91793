"""A black-box conformance kit for CNI plugins: it runs any plugin as a runtime does, and looks at what it did."""
