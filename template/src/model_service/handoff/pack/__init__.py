"""One page for each team that has to live with the service, made to be read without a network."""
