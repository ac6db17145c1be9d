-- resty.sha384: the digest in parts.
return require "moonrest.digest" "sha384"
