variable "TAG" { default = "one" }
target "app" {
  tags       = ["app:${TAG}"]
  args       = { A = "a", B = "b" }
  annotations = ["a=1"]
  cache-from = ["user/app:one"]
}
group "default" { targets = ["app"] }
