// Command cloister-pkcs11 speaks to hardware keys for cloister. It is a program
// of its own because a PKCS #11 module is a C library in its user's process: so
// the other binaries stay free of C, and the module sees nothing but what is
// signed.
//
// Life of a request: main reads one request of package hsm from standard input,
// loads the module that it names, finds the token and logs in, makes or uses the
// key, and writes one response to standard output. What went wrong is in the
// response, and the exit code 0; another means that there is none.
package main
