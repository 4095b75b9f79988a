# Every merge rule of inherits: the last parent wins over the first, the target over both.
target "base" {
  context     = "./src"
  dockerfile  = "Dockerfile.base"
  args        = { A = "base", B = "base", C = null }
  labels      = { team = "core" }
  tags        = ["base:1"]
  platforms   = ["linux/amd64", "linux/arm64"]
  cache-from  = ["type=registry,ref=user/base:cache"]
  cache-to    = ["type=inline"]
  secret      = ["id=token,src=base.txt"]
  no-cache-filter = ["one"]
  ulimits     = ["nofile=1024:1024"]
  annotations = ["index:org.example.a=1"]
  attest      = ["type=provenance,mode=min", { type = "sbom" }]
}

target "other" {
  args       = { B = "other" }
  cache-from = ["user/other:cache"]
  secret     = [{ id = "token", env = "TOKEN" }, { id = "second", src = "second.txt" }]
  output     = ["type=local,dest=out"]
  attest     = ["type=provenance,mode=max"]
  ssh        = ["default", "key=/a,/b"]
  extra-hosts = { db = "10.0.0.1" }
}

target "app" {
  inherits        = ["base", "other"]
  description     = "The app"
  args            = { A = "app $${literal}" }
  tags            = ["app:1", "", "app:1", "app:2"]
  cache-from      = ["type=registry,ref=user/base:cache"]
  no-cache-filter = ["two"]
  target          = "release"
  pull            = true
  network         = "host"
  shm-size        = "128m"
  resources       = { memory = "1g", cpu-shares = 512 }
}

# An empty list takes the place of an inherited one.
target "bare" {
  inherits  = ["app"]
  platforms = []
  tags      = []
  output    = []
}

group "default" {
  targets = ["app", "all"]
}

group "all" {
  description = "both of them"
  targets     = ["bare", "app"]
}
