-- resty.sha256: the digest in parts.
return require "moonrest.digest" "sha256"
