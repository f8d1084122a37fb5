"""Parts of every process that serves, the API's and the worker's."""
