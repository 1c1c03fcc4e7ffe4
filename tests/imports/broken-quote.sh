#!/bin/bash
python3 train.py --lr 1e-6 \
  --x "open
