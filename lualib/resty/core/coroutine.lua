-- Coroutines work alike in every phase: there is nothing to tell apart here.
return { version = require("resty.core.base").version }
