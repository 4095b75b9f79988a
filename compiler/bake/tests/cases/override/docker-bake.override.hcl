variable "TAG" { default = "two" }
target "app" {
  args       = { B = "over", C = "c" }
  annotations = ["b=2"]
  cache-from = ["user/app:two"]
  platforms  = [BAKE_LOCAL_PLATFORM]
}
target "extra" { inherits = ["app"] }
group "default" { targets = ["extra"] }
