"""What a person or a timer runs around the jobs: the cluster's file, machines, prices, failed launches, the night."""
