-- resty.openssl.ec: the names of what a key on a curve consists of.
return { params = { "group", "public", "private", "x", "y" } }
