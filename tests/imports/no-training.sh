#!/bin/bash
set -e
python3 serve.py --port 80
