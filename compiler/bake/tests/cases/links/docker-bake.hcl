target "base" {
  dockerfile = "Dockerfile.base"
  output     = ["type=local,dest=never"]
  entitlements = ["security.insecure"]
}
target "middle" {
  contexts = { base = "target:base" }
}
target "app" {
  contexts = {
    middle = "target:middle"
    src    = "../src"
    image  = "docker-image://alpine:3"
    gone   = ""
  }
}
target "middle2" {
  inherits = ["middle"]
  output   = ["type=docker"]
}
