-- resty.sha1: the digest in parts.
return require "moonrest.digest" "sha1"
