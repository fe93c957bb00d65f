"""What travels between a server and its clients: values as JSON, errors as problem documents."""
