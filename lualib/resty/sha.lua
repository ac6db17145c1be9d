-- resty.sha: what the libraries of the SHA family have in common, which here is nothing.
return { _VERSION = "0.19" }
