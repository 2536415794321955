"""The management API's views on instances and engines; each calls one domain function."""
