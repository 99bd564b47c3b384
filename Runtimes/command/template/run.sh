#!/bin/sh
# The event is on standard input, the answer goes to standard output.
cat
