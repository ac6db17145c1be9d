-- resty.sha512: the digest in parts.
return require "moonrest.digest" "sha512"
