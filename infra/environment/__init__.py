"""Reading and checking settings: types, addresses, what production needs."""
