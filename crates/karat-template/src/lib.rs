//! Template files to a typed Template: block schemas, variables, locals, data sources. Pure.
