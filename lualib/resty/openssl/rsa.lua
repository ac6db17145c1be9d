-- resty.openssl.rsa: the names of what an RSA key consists of.
return { params = { "n", "e", "d", "p", "q", "dmp1", "dmq1", "iqmp" } }
