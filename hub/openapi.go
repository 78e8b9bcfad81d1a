package hub

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/zosfs/zosfs/hub/api"
)

// maxJSON is the largest JSON body of a request, in bytes.
const maxJSON = 64 << 10

func newAPI(mux *http.ServeMux, version string) huma.API {
	schemas := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	return humago.New(mux, huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info:    &huma.Info{Title: "ZOS-FS hub", Version: version, Description: "Normative text: docs/protocol.md."},
			Components: &huma.Components{
				Schemas: schemas,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"token": {Type: "http", Scheme: "bearer", Description: "A token that begins with zosfs_."},
				},
			},
			// A token may be given everywhere and is needed for some.
			Security: []map[string][]string{{}, {"token": {}}},
		},
		// The second is how huma knows what ends in +json.
		Formats:       map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{errorBody},
	})
}

// errorBody gives all errors the body that the protocol has: ours, and those that huma
// makes of requests that do not fit.
func errorBody(c huma.Context, _ string, v any) (any, error) {
	switch e := v.(type) {
	case *failure:
		return api.ErrorBody{Error: e.body}, nil
	case *huma.ErrorModel:
		if p, ok := c.(*plainJSON); ok {
			p.badRequest = true
		}
		code := api.StatusCode(e.Status)
		if e.Status == http.StatusUnprocessableEntity || e.Status == http.StatusUnsupportedMediaType {
			code = api.CodeBadRequest // the shape of the request, not of what it carries
		}
		details := []string{e.Detail}
		for _, d := range e.Errors {
			details = append(details, d.Location+": "+d.Message)
		}
		return api.ErrorBody{Error: api.Error{Code: code, Message: strings.Join(details, "; ")}}, nil
	}
	return v, nil
}

// humaContext lets plainJSON embed the interface, which has a method of its own name.
type humaContext huma.Context

// plainJSON undoes what huma does to the answers that it makes of bad requests: they have
// the media type of another error format, and a status that means damaged data here.
type plainJSON struct {
	humaContext
	badRequest bool
}

// SetHeader implements huma.Context.
func (c *plainJSON) SetHeader(name, value string) {
	c.humaContext.SetHeader(name, strings.Replace(value, "application/problem+json", "application/json", 1))
}

// SetStatus implements huma.Context.
func (c *plainJSON) SetStatus(status int) {
	if c.badRequest && status == http.StatusUnprocessableEntity {
		status = http.StatusBadRequest
	}
	c.humaContext.SetStatus(status)
}

// register adds a JSON endpoint. What fn fails with becomes an error of the protocol.
func register[I, O any](a huma.API, id, method, path, summary string, fn func(context.Context, *I) (*O, error)) {
	op := huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary, MaxBodyBytes: maxJSON,
		SkipValidateParams: true, // names are checked where they are used, by the rules of the protocol
		Responses:          map[string]*huma.Response{"default": errorResponse(a)},
		Middlewares:        huma.Middlewares{func(c huma.Context, next func(huma.Context)) { next(&plainJSON{humaContext: c}) }},
	}
	huma.Register(a, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := fn(ctx, in)
		if err == nil {
			return out, nil
		}
		f := asFailure(err)
		failed(ctx, f)
		h := http.Header{}
		f.headers(h)
		return nil, huma.ErrorWithHeaders(f, h)
	})
}

func errorResponse(a huma.API) *huma.Response {
	return &huma.Response{Description: "Error", Content: map[string]*huma.MediaType{
		"application/json": {Schema: a.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[api.ErrorBody](), true, "ErrorBody")},
	}}
}

// describe adds the endpoints that are plain handlers, since they carry bytes, to the
// description of the rest.
func describe(a huma.API) {
	schemas := a.OpenAPI().Components.Schemas
	param := func(in, name, doc string) *huma.Param {
		return &huma.Param{Name: name, In: in, Required: in == "path", Description: doc, Schema: &huma.Schema{Type: "string"}}
	}
	bytes := func(doc, mediaType string) *huma.Response {
		return &huma.Response{Description: doc, Content: map[string]*huma.MediaType{mediaType: {Schema: &huma.Schema{Type: "string", Format: "binary"}}}}
	}
	body := func(mediaType string) *huma.RequestBody {
		return &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{mediaType: {Schema: &huma.Schema{Type: "string", Format: "binary"}}}}
	}
	jsonOf := func(doc string, t reflect.Type) *huma.Response {
		return &huma.Response{Description: doc, Content: map[string]*huma.MediaType{"application/json": {Schema: schemas.Schema(t, true, "")}}}
	}
	add := func(id, method, path, summary string, in *huma.RequestBody, params []*huma.Param, out map[string]*huma.Response) {
		out["default"] = errorResponse(a)
		a.OpenAPI().AddOperation(&huma.Operation{
			OperationID: id, Method: method, Path: path, Summary: summary, Parameters: params, RequestBody: in, Responses: out})
	}
	digest := param("path", "digest", "64 lower-case hexadecimal digits.")
	ranged := param("header", "Range", "As RFC 9110, section 14.")
	owner, name := param("path", "owner", "Owner of the repository."), param("path", "name", "Name of the repository.")
	add("put-blob", http.MethodPut, "/v1/blobs/{digest}", "Put a blob", body(api.TypeBlob), []*huma.Param{digest},
		map[string]*huma.Response{"201": jsonOf("It is kept.", reflect.TypeFor[api.Blob]())})
	for _, m := range []string{http.MethodGet, http.MethodHead} {
		id := strings.ToLower(m)
		add(id+"-blob", m, "/v1/blobs/{digest}", "A blob or a range of it", nil, []*huma.Param{digest, ranged},
			map[string]*huma.Response{"200": bytes("All of it.", api.TypeBlob), "206": bytes("A range.", api.TypeBlob), "304": {Description: "The caller has it."}})
		add(id+"-flist", m, "/v1/repos/{owner}/{name}/flists/{digest}", "An flist as shipped", nil, []*huma.Param{owner, name, digest, ranged},
			map[string]*huma.Response{"200": bytes("All of it.", api.TypeFlist), "206": bytes("A range.", api.TypeFlist), "304": {Description: "The caller has it."}})
	}
	add("publish", http.MethodPut, "/v1/repos/{owner}/{name}/tags/{tag}", "Publish an flist and point a tag at it", body(api.TypeFlist),
		[]*huma.Param{owner, name, param("path", "tag", "Tag."), param("query", "public", "true or false: who may read the repository if it is new.")},
		map[string]*huma.Response{"201": jsonOf("It is published.", reflect.TypeFor[api.Tag]())})
	add("locate", http.MethodPost, "/v1/chunks/locate", "Where chunks lie", body(api.TypeLocate), nil,
		map[string]*huma.Response{"200": bytes("Where those lie that the caller may read.", api.TypeLocateAnswer)})
	add("health", http.MethodGet, "/healthz", "Whether the hub works", nil, nil,
		map[string]*huma.Response{"200": {Description: "It does.", Content: map[string]*huma.MediaType{"text/plain": {}}}})
}

// serveOpenAPI serves the description as it is now.
func serveOpenAPI(mux *http.ServeMux, a huma.API) error {
	asJSON, err := json.Marshal(a.OpenAPI())
	if err != nil {
		return err
	}
	asYAML, err := a.OpenAPI().YAML()
	if err != nil {
		return err
	}
	serve := func(path, mediaType string, p []byte) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", mediaType)
			_, _ = w.Write(p) // the peer is gone if it fails
		})
	}
	serve("/openapi.json", "application/openapi+json", asJSON)
	serve("/openapi.yaml", "application/openapi+yaml", asYAML)
	return nil
}
