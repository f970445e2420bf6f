"""Takes its time."""

import sys
import time

print("WAITING", flush=True)
time.sleep(float(sys.argv[1]))
