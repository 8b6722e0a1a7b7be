# Simulated platform: for development only. It protects nothing, and no
# confidential platform starts anything under this policy.
package cloister_simulated

simulated := true

process := {
  "command": [
    "cloisterd",
    "run",
    "--specification-digest",
    "sha256:b793d6260ceceb4b1921ada404d0505503a6dbad31be7f9afa6b19a5fb0daea8",
    "--ledger-key",
    "ledger.example+47b56cb0+AQcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH"
  ],
  "name": "count",
  "runtime_binary_sha256": "sha256:abababababababababababababababababababababababababababababababab"
}
