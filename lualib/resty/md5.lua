-- resty.md5: the digest in parts.
return require "moonrest.digest" "md5"
