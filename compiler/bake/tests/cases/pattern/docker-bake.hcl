target "app" {
  tags   = ["app:1"]
  output = ["type=registry", "type=image,name=x"]
  secret = ["id=a,src=a.txt"]
  args   = { KEEP = "k" }
}
target "app-test" {
  inherits = ["app"]
  output   = []
}
target "other" {}
group "default" { targets = ["app", "app-test", "other"] }
