package quaytest_test

import "testing"

var manifestCases = []contractCase{
	{n: 35, name: "one manifest", run: func(t *testing.T, e *env) {
		r := e.get(t, api(e.repo("app"))+"/manifest/"+string(image1.Desc.Digest), "")
		want(t, "status", r.status, 200)
		body := r.json(t)
		want(t, "manifest_data", at(body, "manifest_data"), any(string(image1.Raw)))
		want(t, "layers", len(list(body, "layers")), 2)
		want(t, "base", at(body, "layers", 0, "blob_digest"), any(string(base.Desc.Digest)))
		body = e.get(t, api(e.repo("app"))+"/manifest/"+string(multi.Desc.Digest), "").json(t)
		want(t, "has layers", has(body, "layers"), true)
		want(t, "layers of an index", at(body, "layers"), nil)
		want(t, "layers_compressed_size of an index", at(body, "layers_compressed_size"), any(0.0))
		want(t, "manifest_data of an index", at(body, "manifest_data"), any(string(multi.Raw)))
	}},
	{n: 36, name: "labels", run: func(t *testing.T, e *env) {
		labels := func(d, query string) []any {
			r := e.get(t, api(e.repo("app"))+"/manifest/"+d+"/labels"+query, "")
			want(t, "status", r.status, 200)
			return list(r.json(t), "labels")
		}
		all := labels(string(image1.Desc.Digest), "")
		want(t, "labels", len(all), 3)
		for _, l := range all {
			want(t, "source_type", at(l, "source_type"), any("manifest"))
		}
		want(t, "labels that begin with org.", len(labels(string(image1.Desc.Digest), "?filter=org.")), 2)
		want(t, "labels of an index", len(labels(string(multi.Desc.Digest), "")), 0)
		annotations := labels(string(artifact.Desc.Digest), "")
		want(t, "labels of an artifact", column(annotations, "key"), []any{"org.example.kind"})
	}},
	{n: 37, name: "labels that can't be changed", run: func(t *testing.T, e *env) {
		repo, ta := e.scratch(t), "Bearer "+e.admin
		e.push(t, repo, "v1", image1)
		path := api(repo) + "/manifest/" + string(image1.Desc.Digest) + "/labels"
		id := at(e.get(t, path, "").json(t), "labels", 0, "id").(string)
		r := e.send(t, "DELETE", path+"/"+id, ta, nil)
		want(t, "status", r.status, 400)
		want(t, "message", at(r.json(t), "message"), any("Cannot delete immutable label"))
		add := func(key string) reply {
			return e.send(t, "POST", path, ta, map[string]any{"key": key, "value": "1", "media_type": "text/plain"})
		}
		r = add("io.quay.x")
		want(t, "status of a reserved key", r.status, 400)
		want(t, "message of a reserved key", at(r.json(t), "message"), any("Label has a reserved prefix"))
		want(t, "status of quay.expires-after", add("quay.expires-after").status, 400)
		want(t, "status of a bad key", add("a..b").status, 400)
		r = add("my.key")
		want(t, "status of a good key", r.status, 201)
		id = at(r.json(t), "label", "id").(string)
		want(t, "source_type", at(e.get(t, path+"/"+id, "").json(t), "source_type"), any("api"))
		want(t, "delete", e.send(t, "DELETE", path+"/"+id, ta, nil).status, 204)
		want(t, "labels left", len(list(e.get(t, path, "").json(t), "labels")), 3)
	}},
}
