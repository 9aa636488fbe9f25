print("loading shard 3 of 7")
raise RuntimeError("shard 3 is empty")
