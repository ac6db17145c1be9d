-- resty.openssl.dh: the names of what a Diffie-Hellman key consists of.
return { params = { "public", "private", "p", "q", "g" } }
