"""The numbered behaviours of the contract, a file per section."""
