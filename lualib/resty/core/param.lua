-- resty.core.param: ngx.arg is native.
return { version = require("resty.core.base").version }
