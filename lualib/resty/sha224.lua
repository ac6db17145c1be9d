-- resty.sha224: the digest in parts.
return require "moonrest.digest" "sha224"
