"""Media of calls: ICE, DTLS-SRTP, codecs, and where pictures and sound come from and go to.

The only package that knows aiortc, aioice and PyAV; whoever uses it imports it with the first
call, for with it come forty megabytes of codecs.
"""
