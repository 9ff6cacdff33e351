"""Results to look at: files for ParaView and figures.

``paraview`` writes arrays on regular grids (VTKHDF, VTI), ``functions`` DOLFINx functions (VTX, XDMF),
``figures`` draws with Matplotlib and ``surfaces`` with PyVista. Import the module that is needed: only
``functions`` needs DOLFINx, only ``surfaces`` needs PyVista.
"""
