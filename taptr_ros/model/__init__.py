"""The network: backbone, encoder, decoder, global matching, configuration and checkpoint conversion."""
