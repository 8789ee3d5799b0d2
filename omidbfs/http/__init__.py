"""HTTP and WebDAV: translates between requests and a drive. Nothing else of omidbfs knows these protocols."""
