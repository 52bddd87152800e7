"""Any verb as a Ray job: the code goes along, the log comes back, the exit code is the job's."""
